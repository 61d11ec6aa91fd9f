"""Who is in the studio: members, tokens, invitations, log-ins."""
