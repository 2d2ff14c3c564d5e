"""What was compiled before: kernels and programs, in memory and on disk, by what they compute."""
