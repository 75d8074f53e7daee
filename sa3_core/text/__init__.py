"""From a prompt to what conditions the nets: tokenizers, T5Gemma, prompt forms."""
