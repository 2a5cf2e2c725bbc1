"""The demo model: its prompts, synthetic interviews, tokenizer, training and evaluation."""
