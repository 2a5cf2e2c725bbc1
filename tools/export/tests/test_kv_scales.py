"""The scales of an int8 cache can be divided by, whatever a text has shown of keys and values."""

import numpy as np
from exaone_export.kv_scales import kv_scales


def test_a_head_that_is_silent_on_the_text_has_a_scale_that_can_be_divided_by():
    keys = np.random.default_rng(3).standard_normal((5, 2, 8), np.float32)
    keys[:, 1] = 0
    scales = kv_scales([(keys, np.zeros_like(keys))])
    for scale in scales.values():
        assert scale.dtype == np.float32 and scale.shape == (1, 2, 1, 8)
        assert np.isfinite(np.float32(1) / scale).all()
    assert (scales["kv_scales.0.key"][0, 0] > 1e-3).all(), "the other head's are what it reaches"
