"""The other side of each comparison: short scripts, written as each library's own documentation teaches."""
