"""Training on Lightning: `pretrain` and `finetune` turn settings (plain dataclasses) into run folders.

The one room that knows Lightning. A batch of pretraining is a pure function of its step, which is what makes resuming and several
processes exact.
"""
