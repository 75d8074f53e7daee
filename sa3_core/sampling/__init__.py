"""From noise to a latent: schedules, solvers, guidance, seeds."""
