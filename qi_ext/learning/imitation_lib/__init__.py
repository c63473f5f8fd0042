"""imitation-lib's GAIL and VAIL behind the phases of a learner."""
