"""The resolvent's filters in other people's training loops: one callback each, imported with its framework.

``tithe.integrations.lightning.ResolventCallback`` is for Lightning's Trainer (extra ``lightning``),
``tithe.integrations.transformers.ResolventCallback`` for that of Hugging Face (extra ``transformers``). A loop of one's
own needs neither: ``examples/train_less.py``.
"""

from tithe.integrations.attached import Attached, Finish, Settings

__all__ = ["Attached", "Finish", "Settings"]
