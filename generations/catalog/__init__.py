"""The provider's models that the studio knows: `ENDPOINTS`, and `get` for one of them. What each takes
is data, read from the provider's pages."""

from dataclasses import dataclass
from decimal import Decimal

from generations.catalog.endpoint import Endpoint, Pricing, at_most, exactly_one, not_together, shots_fill_duration
from generations.catalog.parameters import Boolean, Choice, Duration, Elements, Image, Shots, Text, show


class UnknownEndpoint(LookupError):
    """No endpoint has this id."""

    def __init__(self, endpoint_id: object) -> None:
        super().__init__(f"There is no endpoint {show(endpoint_id)}. Known endpoints: {', '.join(ENDPOINTS)}.")


@dataclass(frozen=True)
class ImageLimits:
    """What the provider takes as a source image. Aspects are width divided by height, sides are pixels."""

    formats: tuple[str, ...]
    max_bytes: int
    min_side: int
    min_aspect: Decimal
    max_aspect: Decimal


IMAGE_LIMITS = ImageLimits(("JPEG", "PNG"), 10_000_000, 300, Decimal("0.4"), Decimal("2.5"))


def get(endpoint_id: str) -> Endpoint:
    try:
        return ENDPOINTS[endpoint_id]
    except (KeyError, TypeError):
        raise UnknownEndpoint(endpoint_id) from None


ENDPOINTS: dict[str, Endpoint] = {
    endpoint.id: endpoint
    for endpoint in (
        Endpoint(
            id="kwaivgi/kling-video-o3-4k/image-to-video",
            title="Kling Video O3 4K: image to video",
            parameters=(
                Image(name="image", required=True, description="The picture that the video starts from."),
                Text(
                    name="prompt",
                    max_length=2_500,
                    description="What happens: motion, camera, light, mood. Not together with shots.",
                ),
                Image(name="end_image", description="The picture that the video ends with. Not together with shots."),
                Duration(
                    name="duration",
                    seconds=tuple(range(3, 16)),
                    default=5,
                    description="Length of the video in seconds.",
                ),
                Boolean(name="sound", default=False, description="Sound that fits the picture, at no extra cost."),
                Choice(
                    name="shot_type",
                    choices=("customize", "intelligent"),
                    default="customize",
                    description="Who cuts the shots: customize, as they are given; intelligent, the model.",
                ),
                Shots(
                    name="multi_prompt",
                    max_items=6,
                    max_length=512,
                    max_seconds=15,
                    description="Shots instead of a prompt, 1 to 6; together they last as long as the video.",
                ),
                Elements(
                    name="element_list",
                    description="Elements to keep consistent, at most 3 with an end image. The prompt names them.",
                ),
            ),
            rules=(
                exactly_one("prompt", "multi_prompt", "prompt_or_shots"),
                shots_fill_duration,
                not_together("multi_prompt", "end_image"),
                at_most(3, "element_list", given="end_image"),
            ),
            pricing=Pricing(Decimal("0.42"), per_seconds=1),
            usual_seconds=150,
        ),
    )
}
