"""Who may connect and call: TLS, tokens, and what a connection may cost."""
