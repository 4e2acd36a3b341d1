"""Commands and reads with the paths and the answers of Headwater's services."""

from django.conf import settings
from django.core.cache import cache
from django.core.exceptions import ValidationError as InvalidValue
from django.db import IntegrityError
from django.http import HttpResponse
from rest_framework.exceptions import APIException, NotFound, ValidationError
from rest_framework.renderers import JSONRenderer
from rest_framework.response import Response
from rest_framework.views import APIView

from .models import Account, Order
from .serializers import PlaceSerializer, RegisterSerializer

LIMIT_MAX = 100


class Taken(APIException):
    status_code = 409
    default_detail = "The id, the email address or the username is taken"


class Command(APIView):
    """Makes one row, in one transaction."""

    serializer = None
    event = None

    def post(self, request, id):
        serializer = self.serializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        try:
            serializer.save(id=id)
        except IntegrityError as error:
            raise Taken() from error
        location = request.path.rpartition("/")[0]
        return Response({"id": id, "events": [self.event]}, status=201, headers={"Location": location})


class Register(Command):
    serializer = RegisterSerializer
    event = "account.registered"


class Place(Command):
    serializer = PlaceSerializer
    event = "order.placed"


class Read(APIView):
    """An answer, from the cache if it is on and has it."""

    def get(self, request, **path):
        if not settings.SECONDS_CACHED:
            return Response(self.read(request.query_params, **path))
        # What is kept is the JSON, as it goes out.
        key = request.get_full_path()
        body = cache.get(key)
        if body is None:
            body = JSONRenderer().render(self.read(request.query_params, **path))
            cache.set(key, body, settings.SECONDS_CACHED)
        return HttpResponse(body, content_type="application/json")

    def read(self, query, **path):
        raise NotImplementedError


def columns(model, query):
    """The columns that are asked for with `fields`, or all."""
    names = [field.attname for field in model._meta.concrete_fields]
    wanted = query["fields"].split(",") if "fields" in query else names
    if not set(wanted) <= set(names):
        raise ValidationError({"fields": f"may be {', '.join(names)}"})
    return wanted


class OneAccount(Read):
    def read(self, query, id):
        try:
            return Account.objects.values(*columns(Account, query)).get(pk=id)
        except Account.DoesNotExist as error:
            raise NotFound() from error


class List(Read):
    """Rows that equal in one column, sorted by another, newest first."""

    model = None
    equals = None
    newest = None

    def read(self, query):
        if self.equals not in query or query.get("sort") != f"-{self.newest}":
            raise ValidationError({"query": f"ask for ?{self.equals}=…&sort=-{self.newest}"})
        try:
            limit = min(int(query.get("limit", LIMIT_MAX)), LIMIT_MAX)
            rows = self.model.objects.filter(**{self.equals: query[self.equals]}).order_by(f"-{self.newest}", "-id")
            items = list(rows.values(*columns(self.model, query))[:limit])
        except (ValueError, InvalidValue) as error:
            raise ValidationError({"query": str(error)}) from error
        return {"items": items}


class Accounts(List):
    model, equals, newest = Account, "status", "created_at"


class Orders(List):
    model, equals, newest = Order, "account_id", "placed_at"


def ready(request):
    """Whether the service is there."""
    return HttpResponse("ready\n", content_type="text/plain")
