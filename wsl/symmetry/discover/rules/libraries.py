"""Operations that other libraries register with torch, by their qualified names: they exist only
where those are imported.
"""

from __future__ import annotations

from wsl.symmetry.discover.rules.call import Rule
from wsl.symmetry.discover.rules.contractions import grouped_fallback

NAMED: dict[str, Rule] = {
    "transformers::grouped_mm_fallback": grouped_fallback,
}
