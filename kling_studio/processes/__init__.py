"""How the studio's processes start, serve and end."""
