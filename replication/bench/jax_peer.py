"""All seeds stacked by jax.vmap: the simple CNN in flax, trained by optax, an epoch one scan."""

from collections.abc import Callable, Sequence

import numpy as np

from replication.bench.workloads import Finished
from replication.data.augmentation import reach
from replication.data.splits import Split, split
from replication.runs import Run


def jax_vmap(runs: Sequence[Run], device: str, finished: Finished) -> None:
    """Half of the runs at a time. ValueError for another network than the simple CNN and for half precision."""
    import jax
    import jax.numpy as jnp
    import optax
    from flax import linen as nn

    first = runs[0]
    if first.network != "simple_cnn" or first.precision != "float32":
        raise ValueError(f"jax_vmap has simple_cnn in float32 alone: found {first.network} in {first.precision}")
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

    def epoch(state, x, y, held):
        params, stats, opt, key = state
        key, order, draws = jax.random.split(key, 3)
        plan = jax.random.permutation(order, len(y))[: updates * batch].reshape(updates, batch)

        def step(carry, numbers_and_key):
            params, stats, opt = carry
            numbers, key = numbers_and_key
            images = x[numbers]
            if parts.augment:
                images = jax.vmap(moved)(jax.random.split(key, batch), images)

            def loss(params):
                logits, new = net.apply({"params": params, "batch_stats": stats}, scaled(images), True,
                                        mutable=["batch_stats"])  # fmt: skip
                return optax.softmax_cross_entropy_with_integer_labels(logits, y[numbers]).mean(), new["batch_stats"]

            gradients, stats = jax.grad(loss, has_aux=True)(params)
            changes, opt = optimizer.update(gradients, opt)
            return (optax.apply_updates(params, changes), stats, opt), None

        (params, stats, opt), _ = jax.lax.scan(step, (params, stats, opt), (plan, jax.random.split(draws, updates)))
        logits = net.apply({"params": params, "batch_stats": stats}, scaled(held), False)
        return (params, stats, opt, key), logits

    starts, epochs = jax.jit(jax.vmap(start)), jax.jit(jax.vmap(epoch), donate_argnums=0)

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
            state, logits = epochs(state, x, y, held)
            np.asarray(logits)
        finished(len(some))
