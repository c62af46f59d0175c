"""The server side: gateway, labeler and trainer, each a process of its own."""
