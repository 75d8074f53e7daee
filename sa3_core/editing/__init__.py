"""What is kept and what is made anew: regions, masks, seams, continuing, looping."""
