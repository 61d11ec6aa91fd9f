from decimal import Decimal
from typing import Any

import pytest

from wavespeed_sandbox.models import MODELS, InvalidInput

IMAGE_TO_VIDEO = MODELS["kwaivgi/kling-video-o3-4k/image-to-video"]
GOOD: dict[str, Any] = {"image": "https://example.com/a.jpg", "prompt": "pan"}


def test_models_are_the_ones_that_the_product_runs() -> None:
    assert set(MODELS) == {
        "kwaivgi/kling-video-o3-4k/image-to-video",
        "kwaivgi/kling-video-o3-4k/text-to-video",
        "kwaivgi/kling-video-o3-4k/reference-to-video",
        "kwaivgi/kling-elements",
        "kwaivgi/kling-v2.1-i2v-standard",
        "kwaivgi/kling-v2.1-i2v-pro",
        "kwaivgi/kling-v2.1-i2v-master",
    }


def test_inputs_keep_known_keys_and_get_the_defaults() -> None:
    assert IMAGE_TO_VIDEO.clean(GOOD | {"durration": 15, "seed": 4}) == GOOD | {
        "duration": 5,
        "sound": False,
        "shot_type": "customize",
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": ""}, 'field "image" is required and must not be empty'),
        ({"image": None}, 'field "image" is required and must not be empty'),
        ({"image": 7}, 'field "image" must be string'),
        ({"prompt": ""}, 'field "prompt" is required and must not be empty'),
        ({"prompt": "x" * 2501}, 'field "prompt" must be at most 2500 characters'),
        ({"duration": 2}, 'field "duration" must be one of 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15'),
        ({"duration": 5.5}, 'field "duration" must be integer'),
        ({"duration": "5"}, 'field "duration" must be integer'),
        ({"duration": True}, 'field "duration" must be integer'),
        ({"sound": "yes"}, 'field "sound" must be boolean'),
        ({"shot_type": "intelligence"}, 'field "shot_type" must be one of customize, intelligent'),
        ({"element_list": [{"element_id": 306}]}, 'field "element_list[0].element_id" must be string'),
        ({"element_list": ["306"]}, 'field "element_list[0]" must be object'),
        (
            {"end_image": "https://example.com/b.jpg", "element_list": [{"element_id": str(i)} for i in range(4)]},
            'field "element_list" must contain at most 3 items with "end_image"',
        ),
        (
            {"prompt": None, "multi_prompt": [{"prompt": "a", "duration": 4}]},
            'field "multi_prompt" durations must sum to "duration"',
        ),
        (
            {"prompt": None, "multi_prompt": [{"prompt": "", "duration": 5}]},
            'field "multi_prompt[0].prompt" is required and must not be empty',
        ),
        (
            {"multi_prompt": [{"prompt": "a", "duration": 5}]},
            'field "prompt" and "multi_prompt" can not be used together',
        ),
        (
            {
                "prompt": None,
                "end_image": "https://example.com/b.jpg",
                "multi_prompt": [{"prompt": "a", "duration": 5}],
            },
            'field "end_image" is not supported with "multi_prompt"',
        ),
    ],
)
def test_image_to_video_refuses(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        IMAGE_TO_VIDEO.clean(GOOD | change)
    assert str(refused.value) == message


def test_elements_refuse_an_empty_reference_list() -> None:
    inputs = {"name": "Ana", "description": "a woman", "image": "https://example.com/a.jpg", "element_refer_list": []}
    with pytest.raises(InvalidInput, match='field "element_refer_list" is required and must not be empty'):
        MODELS["kwaivgi/kling-elements"].clean(inputs)


@pytest.mark.parametrize(
    ("model", "inputs", "price"),
    [
        ("kling-video-o3-4k/image-to-video", {"duration": 3}, "1.26"),
        ("kling-video-o3-4k/image-to-video", {"sound": True}, "2.10"),
        ("kling-video-o3-4k/text-to-video", {"duration": 15}, "6.30"),
        ("kling-video-o3-4k/reference-to-video", {"duration": 10}, "4.20"),
        ("kling-elements", {}, "0.01"),
        ("kling-v2.1-i2v-standard", {}, "0.25"),
        ("kling-v2.1-i2v-pro", {"duration": 10}, "0.90"),
        ("kling-v2.1-i2v-master", {"duration": 10}, "2.60"),
    ],
)
def test_price_is_the_listed_one(model: str, inputs: dict[str, Any], price: str) -> None:
    assert MODELS[f"kwaivgi/{model}"].quote(inputs) == Decimal(price)
