"""Numbers for people and programs: tables, LaTeX, HTML, CSV and JSON."""
