"""The settings of a stacked training from flat keywords, as tests vary them."""

import dataclasses

from wsl.populations import MemberSettings, SharedSettings

OWN, SHARED = (
    {field.name for field in dataclasses.fields(kind)} for kind in (MemberSettings, SharedSettings)
)


def settings(**options):
    """Arguments of `train_population`: ``members``, ``shared``, and what is in neither."""
    return {
        "members": MemberSettings(**{k: v for k, v in options.items() if k in OWN}),
        "shared": SharedSettings(**{k: v for k, v in options.items() if k in SHARED}),
        **{k: v for k, v in options.items() if k not in OWN | SHARED},
    }
