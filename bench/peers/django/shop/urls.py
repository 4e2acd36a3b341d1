"""The paths of Headwater's services, as far as they are measured."""

from django.urls import path

from . import views

urlpatterns = [
    path("accounts/<uuid:id>/register", views.Register.as_view()),
    path("orders/<uuid:id>/place", views.Place.as_view()),
    path("accounts/<uuid:id>", views.OneAccount.as_view()),
    path("accounts", views.Accounts.as_view()),
    path("orders", views.Orders.as_view()),
    path("health/ready", views.ready),
]
