"""Text of others is shown as it is: one rule of escaping per format."""

import pandas as pd
import pytest
import yaml
from markdown_it import MarkdownIt

from satclip_lib.checkpoints.model_card import escape_markdown, make_model_card
from satclip_lib.evaluation.summary import save_tables

ATTACKS = [
    "<script>alert(1)</script> <img src=x onerror=alert(1)>",
    "[a](javascript:alert) ![b](x) <https://example.org> &lt;b&gt; `code` ~~x~~ *b* \\* $x$",
    "a | b\n\n---\n# c\n| d | e |",
    "1\nlicense: x\n---\n",
]
MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def _show(markdown):
    """Kinds of the tokens that Markdown makes of a text, and what a reader sees of its text."""
    tokens = [child for t in MARKDOWN.parse(markdown) for child in [t, *(t.children or ())]]
    return {t.type for t in tokens}, "".join(t.content for t in tokens if not t.children)


@pytest.mark.parametrize("attack", ATTACKS, ids=range(len(ATTACKS)))
def test_markdown_of_others_is_text(attack, tmp_path):
    """By the rule, on a model card and in a table it is one line of text, in the cell it is in."""
    one_line = " ".join(attack.split())
    kinds, shown = _show("x " + escape_markdown(attack))
    assert kinds <= {"paragraph_open", "paragraph_close", "inline", "text", "text_special"}
    assert shown == "x " + one_line

    config = {"num_degrees": 2, "embed_dim": 3, "convention": attack}
    card = make_model_card(
        {"location_encoder": config, "image_encoder": None, "provenance": {"licence": attack}}
    )
    _, header, body = card.split("---\n", 2)
    assert yaml.safe_load(header)["license"] == attack
    kinds, shown = _show(body)
    assert not kinds & {"html_inline", "html_block", "link_open", "image", "hr"}
    assert one_line in shown

    rows = [{"task": "t&%", "protocol": attack, "encoder": f"e{attack}", "score": 0.5}]
    summary = pd.DataFrame(rows).assign(metric="R2")
    _, latex, markdown = save_tables(summary, tmp_path / "table")
    kinds, shown = _show(markdown.read_text())
    assert not kinds & {"html_inline", "html_block", "link_open", "image", "heading_open"}
    assert shown.count(one_line) == 2 and f"e{one_line}" in shown
    assert len(latex.read_text().splitlines()) == 7 and r"t\&\% (" in latex.read_text()
