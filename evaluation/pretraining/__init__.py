"""`make models`: the networks that ship with the street worlds are drawn, trained and judged here."""
