"""The largest that anything may be, in options and in files alike: beyond what any run needs, and far from what breaks one."""

MOST_STEPS = 10**12  # of training
MOST_COUNTED = 10**15  # of anything that a run counts; steps go on to whole batches
MOST_SECONDS = 1e12  # of training, or since 1970
MOST_EPISODES = 1_000_000  # of an evaluation, per direction
MOST_CHARACTERS = 4096  # of a text, since no path can be longer
MOST_CHARACTERS_OF_A_LINE = 10_000  # of one that is made of such texts, as a command line is
LARGEST_FIGURE = 1e12  # of what tables write out
