"""`ams demo` behind the page: what is shown of one running session, and the processes that show it.

Everything shown is read from the broker's logs and from the agent's preview; nothing here takes part in the system.
"""
