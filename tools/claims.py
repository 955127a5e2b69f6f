"""Claims of notebooks about their numbers, in profiles that have other numbers.

The prose describes the demo profile, and ``assert`` checks it there: a false claim stops the
notebook. With other images and encoders a claim may be false although all else is right, and a run
of many hours must not end for that. So each false claim is printed, and the notebook goes on.
"""

import ast

REPORTED = ("rehearsal", "paper")  # profiles in which a false claim is printed
FALSE = "does not hold here: "


class ClaimReporter(ast.NodeTransformer):
    """Turns ``assert claim`` into ``if not claim: print(...)``."""

    def visit_Assert(self, node: ast.Assert) -> ast.If:
        """The statement that takes an assertion's place."""
        report = ast.parse(f"print({FALSE + ast.unparse(node.test)!r})").body
        found = ast.If(test=ast.UnaryOp(ast.Not(), node.test), body=report, orelse=[])
        return ast.fix_missing_locations(ast.copy_location(found, node))


def report_claims() -> None:
    """In a running kernel: print false claims from now on."""
    from IPython import get_ipython  # here, because only a kernel has one

    get_ipython().ast_transformers.append(ClaimReporter())
