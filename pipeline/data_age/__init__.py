"""How old may data and model be: small trainings on several windows, half-lives and ages, and what follows."""
