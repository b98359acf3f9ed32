"""What only the installed product needs: the command line, checks, pictures, exports."""
