"""What a generation is made of: its inputs, checked against the catalogue and against what the project has; and its tags."""

import hashlib
import json
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from generations import catalog
from generations.catalog import parameters
from generations.catalog.endpoint import InvalidInputs
from generations.catalog.parameters import Errors, Sentence
from generations.models import Element, Generation, GenerationElement
from projects.models import Project, SourceImage
from projects.tags import normalised

IMAGE_INPUTS = ("image", "end_image")
MOST_TAGS = 20
LONGEST_TAG = 40
BLANK: dict[str, Any] = {"prompt": "", "shot_type": "", "multi_prompt": [], "sound": False}


@dataclass(frozen=True)
class Checked:
    """Inputs that can be sent. `valid` are the catalogue's, with references where URLs will stand; equal ones have one `digest`."""

    endpoint: str
    valid: dict[str, Any]
    images: dict[str, SourceImage]
    elements: list[Element]

    @property
    def digest(self) -> str:
        endpoint = catalog.get(self.endpoint)
        compared = {name: endpoint.parameter(name).compared(value) for name, value in self.valid.items()}
        fingerprint = {"endpoint": self.endpoint, **compared}
        fingerprint |= {name: image.sha256 for name, image in self.images.items()}
        return hashlib.sha256(json.dumps(fingerprint, sort_keys=True, default=str).encode()).hexdigest()

    @property
    def columns(self) -> dict[str, Any]:
        """What stands in the generation's row."""
        plain = {name: value for name, value in self.valid.items() if name not in {"element_list", *IMAGE_INPUTS}}
        images = {name: self.images.get(name) for name in IMAGE_INPUTS}
        return {**BLANK, **plain, **images, "inputs_digest": self.digest}


@dataclass(frozen=True)
class AtHand:
    """The pictures and elements that inputs name, of whatever project, by id."""

    images: dict[uuid.UUID, SourceImage]
    elements: dict[uuid.UUID, Element]

    @classmethod
    def named_in(cls, many: Iterable[Mapping[str, Any]]) -> "AtHand":
        """For all these inputs in two queries, so that fifty are checked as fast as one."""
        images, elements = set(), set()
        for inputs in many:
            images |= {pk for name in IMAGE_INPUTS if (pk := _uuid(inputs.get(name)))}
            listed = inputs.get("element_list")
            elements |= {pk for each in listed if (pk := _uuid(each))} if isinstance(listed, list | tuple) else set()
        return cls(
            SourceImage.objects.in_bulk(images) if images else {},
            Element.objects.in_bulk(elements) if elements else {},
        )


def check(project: Project, endpoint_id: str, inputs: Mapping[str, Any], *, at_hand: AtHand | None = None) -> Checked:
    """Raises `InvalidInputs` that names every problem at once."""
    try:
        endpoint = catalog.get(endpoint_id)
    except catalog.UnknownEndpoint as error:
        raise InvalidInputs({"endpoint": [Sentence(str(error), "invalid_choice")]}) from error
    errors: Errors = {}
    at_hand = at_hand or AtHand.named_in([inputs])
    images = {
        name: _image(project, name, inputs[name], at_hand, errors)
        for name in IMAGE_INPUTS
        if inputs.get(name) not in (None, "")
    }
    elements = _elements(project, inputs.get("element_list"), at_hand, errors)
    plain = dict(inputs)
    if elements is not None:
        plain["element_list"] = [{"element_id": element.element_id} for element in elements]
    try:
        valid = endpoint.validate(plain)
    except InvalidInputs as error:
        for name, problems in error.errors.items():
            errors.setdefault(name, problems)
    if errors:
        raise InvalidInputs(errors)
    return Checked(endpoint_id, valid, {name: image for name, image in images.items() if image}, elements or [])


def check_again(generation: Generation, at_hand: AtHand) -> Checked:
    """What it was made of, as that is now: pictures and elements may be archived by now. Raises `InvalidInputs`."""
    return check(generation.project, generation.endpoint, inputs_of(generation), at_hand=at_hand)


def check_tags(tags: Iterable[str]) -> list[str]:
    """The tags as they are kept: ours alone, so that they are no part of what is sent. Raises `InvalidInputs`."""
    kept = normalised(tags)
    if len(kept) > MOST_TAGS:
        raise InvalidInputs({"tags": [Sentence(f"At most {MOST_TAGS} tags; these are {len(kept)}.", "max_length")]})
    problems = [
        Sentence(f"A tag has at most {LONGEST_TAG} characters; “{tag[:LONGEST_TAG]}…” has {len(tag)}.", "max_length")
        for tag in kept
        if len(tag) > LONGEST_TAG
    ]
    if problems:
        raise InvalidInputs({"tags": problems})
    return kept


def inputs_of(generation: Generation) -> dict[str, Any]:
    """The inputs of a generation as `create` takes them."""
    endpoint = catalog.get(generation.endpoint)
    values: dict[str, Any] = {
        "prompt": generation.prompt,
        "image": str(generation.image_id) if generation.image_id else None,
        "end_image": str(generation.end_image_id) if generation.end_image_id else None,
        "duration": generation.duration,
        "sound": generation.sound,
        "shot_type": generation.shot_type,
        "multi_prompt": generation.multi_prompt,
        "element_list": [str(link.element_id) for link in generation.element_links.all()],
    }
    return {name: value for name, value in values.items() if name in endpoint.names and value not in (None, "", [])}


def _image(project: Project, name: str, value: Any, at_hand: AtHand, errors: Errors) -> SourceImage | None:
    pk = _uuid(value)
    image = at_hand.images.get(pk) if pk else None
    if image is None or image.project_id != project.pk:
        text = f"There is no picture {parameters.show(value)} in {project}. Upload it to this project first, and give its id."
        errors[name] = [Sentence(text, "not_found_here")]
        return None
    if image.archived_at:
        errors[name] = [Sentence(f"The picture “{image}” is archived. Bring it back, or take another one.", "archived")]
    return image


def _elements(project: Project, value: Any, at_hand: AtHand, errors: Errors) -> list[Element] | None:
    """The project's elements with these ids, in their order; None where there is no list to look at."""
    if not isinstance(value, list | tuple):
        return None
    known = {
        pk: element
        for pk, element in at_hand.elements.items()
        if element.project_id == project.pk and element.archived_at is None
    }
    unknown = [parameters.show(each) for each in value if _uuid(each) not in known]
    if unknown:
        text = f"There is no element {', '.join(unknown[:10])} in {project}. Give the ids of this project's elements."
        errors["element_list"] = [Sentence(text, "not_found_here")]
        return None
    pks = [pk for pk in map(_uuid, value) if pk]
    if len(set(pks)) < len(pks):
        errors["element_list"] = [Sentence("An element is in the list twice: give each once.", "repeated")]
        return None
    return [known[pk] for pk in pks]


def is_uuid(value: Any) -> bool:
    return _uuid(value) is not None


def _uuid(value: Any) -> uuid.UUID | None:
    try:
        return uuid.UUID(str(value))
    except ValueError:
        return None


def link_elements(generation: Generation, elements: list[Element]) -> None:
    generation.element_links.all().delete()
    GenerationElement.objects.bulk_create(
        GenerationElement(generation=generation, element=element, position=position)
        for position, element in enumerate(elements)
    )
