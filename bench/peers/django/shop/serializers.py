"""Commands as they come in: the same fields and rules as Headwater's."""

from django.core.validators import RegexValidator
from django.utils import timezone
from rest_framework import serializers

from .models import Account, Order

CURRENCIES = ["EUR", "GBP", "USD"]


class LowerCase:
    """A field whose text is taken in lower case."""

    def to_internal_value(self, data):
        return super().to_internal_value(data).lower()


class Email(LowerCase, serializers.EmailField):
    pass


class Username(LowerCase, serializers.CharField):
    default_validators = [RegexValidator(r"^[A-Za-z0-9._-]{2,32}$")]


class RegisterSerializer(serializers.Serializer):
    # DRF's UniqueValidator would ask the database twice before the constraints are asked again.
    email = Email()
    username = Username(validators=Username.default_validators)
    name = serializers.CharField(required=False, max_length=100)
    region = serializers.CharField(required=False, max_length=32)

    def create(self, validated):
        return Account.objects.create(**validated)


class PlaceSerializer(serializers.Serializer):
    account_id = serializers.UUIDField()
    quantity = serializers.IntegerField(min_value=1, max_value=1_000_000)
    amount_cents = serializers.IntegerField(min_value=0, max_value=10**15)
    currency = serializers.ChoiceField(CURRENCIES)
    placed_at = serializers.DateTimeField(default=timezone.now)

    def validate_account_id(self, account_id):
        """Only an active account can place an order. It may be closed between here and the insert."""
        if not Account.objects.filter(pk=account_id, status="active").exists():
            raise serializers.ValidationError("Only an active account can place an order")
        return account_id

    def create(self, validated):
        return Order.objects.create(**validated)
