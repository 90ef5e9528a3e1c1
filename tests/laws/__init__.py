"""Laws of families, each a function of one instance: a package of one's own runs them too."""
