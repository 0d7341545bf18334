"""Learning from clients that keep their data: who has which, and how their updates are added up unseen."""
