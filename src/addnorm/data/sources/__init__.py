"""What a user names, read record by record: files, folders, tables, `datasets`; in splits, with bad records named."""
