"""What a test asks of the processor that it runs on."""

from __future__ import annotations

import pytest

from potstill.hardware import cpu_has_bf16

needs_bf16 = pytest.mark.skipif(not cpu_has_bf16(), reason="this processor does not multiply bf16")
