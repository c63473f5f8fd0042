"""Report: tables, drawings, films and the HTML page, for a person to look at."""
