from imagenet2012.cli import main

main()
