"""What both engines are told of a window that is stretched: facts of a config.json that stand in for the model's own."""

import json

from launcher.plan import Plan


def overrides(plan: Plan, option: str) -> list[str]:
    """The engine's `option` with these facts as JSON; none where the native window is enough.

    YaRN is static in both engines, and costs accuracy on short texts. Both take max_position_embeddings for scaled already
    where the rope type is yarn (vllm, config/model.py; sglang, utils/hf_transformers/common.py, get_context_length).
    """
    architecture = plan.profile.architecture
    if plan.context <= architecture.context:
        return []
    rope = {
        "rope_type": "yarn",
        "factor": plan.profile.yarn_factor,
        "original_max_position_embeddings": architecture.context,
        "rope_theta": architecture.rope_theta,
    }
    facts = {"rope_parameters": rope, "max_position_embeddings": plan.profile.context_max}
    return [option, json.dumps(facts, separators=(",", ":"))]
