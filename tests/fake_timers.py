"""A clock that needs no torch: a machine that follows the law of latency to the letter."""

from contextlib import contextmanager
from types import SimpleNamespace

from small_encoders import ENCODER

from autoprumux.records import DeviceProfile, EncoderShape, ShapeTiming, Throughput
from autoprumux.surrogates.structure_latency import StructureLatency

LAW = StructureLatency(ENCODER, 32, (0.78, 0.1, 0.2, 0.02, 0.02, 0.03), 0.05)


class FakeTimer:
    """A machine that follows the law of latency to the letter; its baseline does 800 a second."""

    def __init__(self, config):
        self.config = config
        self.timed: list[tuple[EncoderShape, str]] = []

    def profile(self, name=""):
        throughput = self.config.throughput
        return DeviceProfile(
            name=name or f"fake-b{throughput.batch_size}",
            device="cpu",
            processor="Imaginary 9000",
            dtype="float32",
            batch_size=throughput.batch_size,
            length=throughput.length or self.config.data.max_length,
            num_threads=2,
        )

    def encoder(self, widths):
        return ENCODER

    def measure(self, shape, checkpoint):
        self.timed.append((shape, checkpoint))
        return self._throughput(shape)

    def measure_directory(self, directory):
        return self._throughput(EncoderShape(2, 128, (4,) * 4, (512,) * 4))

    def time_shapes(self, shapes, limit_s, between=None):
        if between:
            between()
        assert limit_s <= 110
        timings = [
            ShapeTiming(
                shape=shape,
                seconds=0.08 * share,
                seconds_q1=0.08 * share,
                seconds_q3=0.08 * share,
                share=share,
            )
            for shape, share in zip(shapes, map(float, LAW.shares(shapes)), strict=True)
        ]
        return timings, 20

    def _throughput(self, shape):
        speedup = shape.num_instances / float(LAW.shares([shape])[0])
        profile = self.profile()
        return Throughput(
            throughput=800 * speedup,
            throughput_q1=790 * speedup,
            throughput_q3=810 * speedup,
            baseline_throughput=800.0,
            speedup=speedup,
            speedup_q1=0.99 * speedup,
            speedup_q3=1.01 * speedup,
            num_repeats=20,
            batch_size=profile.batch_size,
            length=profile.length,
            dtype="float32",
            device="cpu",
            num_threads=2,
        )


def fake_clock(made):
    """Yield what stands for `autoprumux.evaluators.timed`; its timers are added to `made`."""

    @contextmanager
    def model_timer(config, num_threads=None, *, options=None):
        made.append(FakeTimer(config))
        yield made[-1]

    return SimpleNamespace(model_timer=model_timer)
