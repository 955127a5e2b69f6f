"""Models on disk, in the layout of the public code, and on the Hugging Face Hub."""
