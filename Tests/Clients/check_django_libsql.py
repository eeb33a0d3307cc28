"""Django with the backend `django-libsql-backend` over HTTP: migrations, the ORM, and transactions.

Version 0.1.3 sends real numbers as the type `real` and blobs under `value`, which neither sqld nor any other server of
Hrana reads, so there are none here."""

import django
from django.conf import settings

from checks import URL, done, same

settings.configure(
    DATABASES={"default": {"ENGINE": "django_libsql", "NAME": URL, "AUTH_TOKEN": ""}},
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"],
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
    USE_TZ=False,
)
django.setup()

from django.contrib.auth.models import Group, User
from django.core.management import call_command
from django.db import IntegrityError, OperationalError, ProgrammingError, connection, transaction
from django.db.models import Count, Max

call_command("migrate", verbosity=0)
assert "auth_user" in connection.introspection.table_names()
User.objects.all().delete()
Group.objects.all().delete()

# Rows one by one, with their keys, and reads that see them.
users = [User.objects.create(username=f"user{number}", first_name="Ädä") for number in range(20)]
keys = [int(user.pk) for user in users]  # this backend gives them as text
same(keys, sorted(set(keys)), "keys")
same(User.objects.count(), 20, "count")
same(User.objects.get(username="user7").first_name, "Ädä", "text")
user = users[3]
user.first_name = "it's \"quoted\""
user.save()
same(User.objects.get(pk=user.pk).first_name, user.first_name, "update")
user.set_password("secret")
user.save()
assert User.objects.get(pk=user.pk).check_password("secret")
same(User.objects.filter(username__in=["user1", "user2", "nobody"]).count(), 2, "IN")
same(User.objects.filter(username__contains="1").order_by("-username")[0].username, "user19", "LIKE")
same(User.objects.aggregate(most=Max("username"))["most"], "user9", "aggregate")

# Many to many, joins, deletes that cascade.
group = Group.objects.create(name="readers")
group.user_set.add(*users[:5])
same(Group.objects.annotate(n=Count("user")).get(name="readers").n, 5, "join")
users[0].delete()
same(group.user_set.count(), 4, "cascade")

# Batches: all or nothing.
with transaction.atomic():
    Group.objects.bulk_create([Group(name=f"group{number}") for number in range(50)])
same(Group.objects.filter(name__startswith="group").count(), 50, "bulk_create")
with transaction.atomic():
    User.objects.filter(username="user5").update(last_name="inside")
same(User.objects.get(username="user5").last_name, "inside", "atomic")
try:
    with transaction.atomic():
        User.objects.filter(username="user6").update(last_name="gone")
        raise ValueError
except ValueError:
    pass
same(User.objects.get(username="user6").last_name, "", "rollback")

# Errors are those that Django knows.
try:
    Group.objects.create(name="readers")
    raise SystemExit("a UNIQUE constraint was not enforced")
except (IntegrityError, OperationalError) as error:
    assert "UNIQUE" in str(error), error
with connection.cursor() as cursor:
    for wrong in ["SELECT * FROM nowhere", "SELEC 1"]:
        try:
            cursor.execute(wrong)
            raise SystemExit(f"not refused: {wrong}")
        except ProgrammingError:
            pass
    for value in [None, 0, -1, 2**63 - 1, -(2**63), "", "Grüße, 世界 \U0001f600"]:
        cursor.execute("SELECT %s", [value])
        same(cursor.fetchone()[0], value, "a value")
done()
