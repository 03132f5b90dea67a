"""All SQL of the reporter: facts in, figures and pages out."""
