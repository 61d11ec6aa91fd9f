from django.db import migrations


def say_that_it_was_saved_anew(apps, schema_editor):
    """Earlier notes left out that every picture was encoded again, which “Nothing” denied."""
    images = apps.get_model("projects", "SourceImage").objects.filter(notes=[])
    for content_type, format in (("image/jpeg", "JPEG"), ("image/png", "PNG")):
        images.filter(content_type=content_type).update(notes=[f"Saved anew as {format}."])


class Migration(migrations.Migration):
    dependencies = [("projects", "0008_idempotency_holder")]

    operations = [migrations.RunPython(say_that_it_was_saved_anew, migrations.RunPython.noop)]
