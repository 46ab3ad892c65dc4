"""All seeds stacked by jax.vmap: the simple CNN in flax, trained by optax, an update one compiled function."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from replication.bench.workloads import Finished
from replication.data.augmentation import reach
from replication.data.splits import Split, split
from replication.run import Run


def jax_vmap(runs: Sequence[Run], device: str, finished: Finished) -> None:
    """Half of the runs at a time."""
    for logits in trained(runs, device):
        finished(len(logits))


def trained(runs: Sequence[Run], device: str) -> Iterator[np.ndarray]:
    """Logits (runs, M + N, K) on validation and test images at the end, of the first and of the second half of the runs.

    No scan over the updates: within a loop XLA computes convolutions more than ten times slower on a CPU.
    ValueError for another network than the simple CNN, for half precision and for a device that JAX does not see.
    """
    import jax
    import jax.numpy as jnp
    import optax
    from flax import linen as nn

    first = runs[0]
    if first.network != "simple_cnn" or first.precision != "float32":
        raise ValueError(f"jax_vmap has simple_cnn in float32 alone: found {first.network} in {first.precision}")
    if jax.default_backend() not in (("gpu",) if device == "cuda" else ("cpu",)):
        raise ValueError(f"jax_vmap was asked for on {device}, found JAX on {jax.default_backend()} alone")
    jax.config.update("jax_default_matmul_precision", "float32")  # a GPU would take TF32
    parts = split(first)
    pixels, batch, classes = parts.train.images.shape[-1], first.batch_size, parts.n_classes
    updates = len(parts.train.labels) // batch
    widths = (32, 64) if pixels < 16 else (32, 64, 128)

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x, training):
            for width in widths:
                x = nn.Conv(width, (3, 3), use_bias=False)(x)
                x = nn.max_pool(x, (2, 2), (2, 2))
                x = nn.relu(nn.BatchNorm(use_running_average=not training, momentum=0.9)(x))
            x = nn.Dense(classes)(x.mean((1, 2)))
            return nn.BatchNorm(use_running_average=not training, momentum=0.9)(x)

    net = Net()
    optimizer = optax.adam(optax.cosine_onecycle_schedule(updates * first.epochs, first.learning_rate, 0.3, 25, 1e4))

    def scaled(x):
        return x.astype(jnp.float32) / 127.5 - 1

    def moved(key, x):
        r = reach(pixels)
        flip, shift = jax.random.split(key)
        padded = jnp.pad(x, ((r, r), (r, r), (0, 0)), mode="reflect")
        at = jax.random.randint(shift, (2,), 0, 2 * r + 1)
        x = jax.lax.dynamic_slice(padded, (at[0], at[1], 0), x.shape)
        return jnp.where(jax.random.bernoulli(flip), x[:, ::-1], x)

    def start(key, x):
        variables = net.init(key, scaled(x[:1]), True)
        return variables["params"], variables["batch_stats"], optimizer.init(variables["params"]), key

    def shuffle(state):
        *rest, key = state
        key, order = jax.random.split(key)
        plan = jax.random.permutation(order, len(parts.train.labels))[: updates * batch].reshape(updates, batch)
        return (*rest, key), plan

    def step(state, x, y, plan, update):
        params, stats, opt, key = state
        key, draws = jax.random.split(key)
        numbers = plan[update]
        images = x[numbers]
        if parts.augment:
            images = jax.vmap(moved)(jax.random.split(draws, batch), images)

        def loss(params):
            logits, new = net.apply(
                {"params": params, "batch_stats": stats}, scaled(images), True, mutable=["batch_stats"]
            )
            return optax.softmax_cross_entropy_with_integer_labels(logits, y[numbers]).mean(), new["batch_stats"]

        gradients, stats = jax.grad(loss, has_aux=True)(params)
        changes, opt = optimizer.update(gradients, opt)
        return optax.apply_updates(params, changes), stats, opt, key

    def test(state, held):
        params, stats, *_ = state
        return net.apply({"params": params, "batch_stats": stats}, scaled(held), False)

    starts, shuffles, tests = (jax.jit(jax.vmap(f)) for f in (start, shuffle, test))
    steps = jax.jit(jax.vmap(step, in_axes=(0, 0, 0, 0, None)), donate_argnums=0)

    def stacked(select: Callable[[Split], np.ndarray], splits: Sequence[Split]):
        return jnp.asarray(np.stack([select(s) for s in splits]))

    half = -(-len(runs) // 2)
    for some in (runs[:half], runs[half:]):
        splits = [split(run) for run in some]
        x = stacked(lambda s: s.train.images.transpose(0, 2, 3, 1), splits)
        held = stacked(lambda s: np.concatenate([s.validation.images, s.test.images]).transpose(0, 2, 3, 1), splits)
        y = stacked(lambda s: s.train.labels, splits)
        state = starts(jnp.stack([jax.random.key(run.seed) for run in some]), x)
        for _ in range(first.epochs):
            state, plan = shuffles(state)
            for update in range(updates):
                state = steps(state, x, y, plan, update)
            logits = np.asarray(tests(state, held))
        yield logits
