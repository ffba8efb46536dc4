import test_shipped_configs as t
t.OWN=[n for n in t.OWN if n.startswith("subtuning/")]
from test_shipped_configs import generated, test_every_experiment_runs_a_step_of_every_stage
