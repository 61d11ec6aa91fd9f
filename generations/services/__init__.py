"""What people and programs may do with generations: the only door for the admin, the API and the commands."""
