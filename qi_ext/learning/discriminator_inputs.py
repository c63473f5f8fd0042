"""Inputs of discriminators, by the names that --discriminator_input takes. A new one is a line in INPUTS."""

# Functions of `transitions.Transitions` that return (N, k), or "module:name" of one, which is imported when it is needed.
INPUTS = {
    "tracking": "qi_ext.learning.transitions:tracking",
    "stepping": "qi_ext.learning.transitions:stepping",
    "next_state": "qi_ext.learning.transitions:next_state",
    "state": "qi_ext.learning.transitions:state",
    "action": "qi_ext.learning.transitions:action",
}
