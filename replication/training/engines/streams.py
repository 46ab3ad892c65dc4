"""Many runs at once as separate networks, each on a stream of its own: exact for any mixture of forms."""

from collections.abc import Callable, Sequence

import torch

from replication.training.engines.member import Member


class Streams:
    """Members side by side, each on a stream where there are streams: of its own, up to the 32 that torch keeps."""

    name = "streams"

    def __init__(self, members: Sequence[Member]):
        self.members, self.device = members, members[0].device
        self.streams = [torch.cuda.Stream() for _ in members] if self.device.type == "cuda" else []

    def _each(self, act: Callable[[Member], None]) -> None:
        if not self.streams:
            for member in self.members:
                act(member)
            return
        main, forked = torch.cuda.current_stream(), []
        try:
            for member, stream in zip(self.members, self.streams):
                stream.wait_stream(main)
                forked.append(stream)
                with torch.cuda.stream(stream):
                    act(member)
        finally:  # a capture that ends with streams not joined would hide why it ended
            for stream in forked:
                main.wait_stream(stream)

    def update(self, clock: torch.Tensor) -> None:
        """One training step of every member."""
        self._each(lambda member: member.update(clock))

    def test(self, epoch: torch.Tensor) -> None:
        """A test of every member."""
        self._each(lambda member: member.test(epoch))

    def mode(self, training: bool) -> None:
        """Training or evaluation, for what follows."""
        for member in self.members:
            member.model.train(training)

    def state(self) -> list[torch.Tensor]:
        """All that training changes."""
        return [tensor for member in self.members for tensor in member.state()]

    def finish(self) -> None:
        """Bring every member's network up to date: it is."""
