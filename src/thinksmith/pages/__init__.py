"""What every self-contained HTML page has in common: its templates, its style, and charts drawn beforehand."""
