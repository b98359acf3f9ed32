from imagenet2012_tools.cli import main

main()
