"""One file per revision; a file that has been released is never changed."""
