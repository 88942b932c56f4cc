"""The paper's ablation and the questions of its public reviews, on picturebook: plan, runs, tables, pictures."""
