from imagenet2012_command import main

main()
