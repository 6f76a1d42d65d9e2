"""What all pages share: one look, one script, the parts of their templates, pictures as SVG."""
