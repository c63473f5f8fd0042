"""What a person looks at: tables, plots, films and the HTML page."""
