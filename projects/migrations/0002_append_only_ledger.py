"""PostgreSQL refuses update and delete of what was booked, raw SQL too; everywhere else the model does. Also the group of studio owners."""

from django.db import migrations

FORBID = """
CREATE FUNCTION ledger_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'The ledger is append-only: book an adjustment instead.';
END $$;
CREATE TRIGGER spend_entry_append_only BEFORE UPDATE OR DELETE ON projects_spendentry
  FOR EACH ROW EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER spend_line_append_only BEFORE UPDATE OR DELETE ON projects_spendline
  FOR EACH ROW EXECUTE FUNCTION ledger_is_append_only();
"""
ALLOW = """
DROP TRIGGER spend_line_append_only ON projects_spendline;
DROP TRIGGER spend_entry_append_only ON projects_spendentry;
DROP FUNCTION ledger_is_append_only();
"""


def forbid(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(FORBID)


def allow(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(ALLOW)


def make_group(apps, schema_editor):
    apps.get_model("auth", "Group").objects.get_or_create(name="Studio owners")


class Migration(migrations.Migration):
    dependencies = [("projects", "0001_initial"), ("auth", "0012_alter_user_first_name_max_length")]
    operations = [migrations.RunPython(forbid, allow), migrations.RunPython(make_group, migrations.RunPython.noop)]
