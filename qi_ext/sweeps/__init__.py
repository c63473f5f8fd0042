"""Many runs from one small file, on this machine or on a Slurm cluster, and their publication in results/."""
