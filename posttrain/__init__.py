"""All logic of the pipeline; knows neither ZenML nor the steps."""

import logging
import warnings

# bitsandbytes warns at import that the package `kernels` is missing. It is left out on purpose:
# with it, native code would be fetched from a hub at run time.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
# Great Expectations tells, some sixty lines a run, what it leaves out of its own documentation.
logging.getLogger("great_expectations").setLevel(logging.WARNING)
# PEFT asks Transformers by a name that Transformers has replaced; nothing here can change that.
warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
